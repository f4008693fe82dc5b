"""Recordings of a real Prometheus, and their replay in another one."""

import gzip
import http.server
import itertools
import json
import math
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from recordings import a_recording, evaluate

from lab.paths import DASHBOARDS, tool
from lab.prometheus import Prometheus, PrometheusUnreachable
from lab.promql import QueryError
from lab.recording import RecordingError, load, record, save
from lab.scrape import render_config, rule_files

GATEWAY_PAGE = """
gateway_requests_total{route="/v1/chat/completions",status="200"} %00
gateway_requests_created{route="/v1/chat/completions",status="200"} 1.6e9
python_gc_collections_total{generation="0"} %
process_start_time_seconds 1.6e9
process_cpu_seconds_total %.5
"""
LLM_PAGE = """
vllm:num_requests_waiting{engine="0"} %
vllm:prompt_tokens_total{engine="0"} %000.25
vllm:time_to_first_token_seconds_bucket{engine="0",le="0.5"} %
vllm:time_to_first_token_seconds_bucket{engine="0",le="1.0"} %2
vllm:time_to_first_token_seconds_bucket{engine="0",le="+Inf"} %5
vllm:cache_config_info{block_size="32"} 1
vllm:odd{text="a \\"b\\" \\\\ \\n é"} NaN
"""
NO_ONE = 9  # the discard port: nobody answers


def exporter(page: str) -> http.server.ThreadingHTTPServer:
    """Serves `page` with % replaced by the number of the scrape, from 100 on."""
    scrapes = itertools.count(100)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.end_headers()
            number = str(next(scrapes))
            self.wfile.write(page.lstrip().replace("%", number).encode())

        def log_message(self, *_: object) -> None:
            """A line a scrape would bury the output of the tests."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 30) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.05)
    pytest.fail(f"not within {seconds} s: {what}")


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a Prometheus with a drill's configuration that has scraped for some seconds."""
    folder = tmp_path_factory.mktemp("prometheus")
    exporters = {"gateway": exporter(GATEWAY_PAGE), "llm": exporter(LLM_PAGE)}
    ports = {"llm-canary": NO_ONE, "loadgen": NO_ONE, "prometheus": NO_ONE}
    ports |= {job: server.server_port for job, server in exporters.items()}
    (folder / "prometheus.yml").write_text(render_config(ports, rule_files(DASHBOARDS / "rules")), encoding="utf-8")
    arguments = ["--config.file=prometheus.yml", "--storage.tsdb.path=data", "--web.listen-address=127.0.0.1:0"]
    log = folder / "log"
    with log.open("wb") as output:
        server = subprocess.Popen([tool("prometheus"), *arguments], cwd=folder, stderr=output)
    try:
        found = wait_for(lambda: re.search(r"Listening on.* address=(\S+)", log.read_text()), "Prometheus listens")
        url = f"http://{found[1]}"
        with Prometheus(url) as prometheus:
            ready = "min(count_over_time({__name__=~'gateway:requests:rate15s|vllm:prompt_tokens_total'}[1m])) >= 9"
            wait_for(lambda: "ready to receive" in log.read_text(), "Prometheus is ready")
            wait_for(lambda: prometheus.query(ready), "nine scrapes")
        yield url
    finally:
        server.kill()
        server.wait()
        for one in exporters.values():
            one.shutdown()
            one.server_close()


@pytest.fixture(scope="module")
def recorded(live: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """A file with the last 8 s of the jobs gateway and llm, and the time at its end."""
    path, end = tmp_path_factory.mktemp("recorded") / "run.json.gz", time.time()
    record(live, end - 8, end, ["gateway", "llm"], path)
    return path, end


# ── a real Prometheus, asked ──


def test_the_engines_cache_configuration_is_not_scraped(live: str) -> None:
    """It carries every setting as a label, and with them half of the diagnoses."""
    with Prometheus(live) as prometheus:
        assert prometheus.query("vllm:prompt_tokens_total")
        assert prometheus.query("vllm:cache_config_info") == []


def test_vectors_scalars_and_ranges_come_as_numbers(live: str) -> None:
    with Prometheus(live) as prometheus:
        assert [sample.labels["job"] for sample in prometheus.query("vllm:prompt_tokens_total")] == ["llm"]
        assert [sample.value for sample in prometheus.query("1 / 0")] == [math.inf]
        series = prometheus.query_range("vector(2)", start=1000, end=1004, step=2)
        assert [one.points for one in series] == [((1000, 2), (1002, 2), (1004, 2))]


@pytest.mark.parametrize(
    ("expression", "part"),
    [
        ("sum(", "parse error"),
        ("up[5s]", "put rate"),
        ('"text"', "not a number"),
        ("up * on () group_left {job!=''}", "many-to-many"),
    ],
)
def test_an_expression_that_cannot_be_evaluated_is_an_error_of_the_query(live: str, expression: str, part: str) -> None:
    with Prometheus(live) as prometheus, pytest.raises(QueryError, match=part):
        prometheus.query(expression)


def test_a_server_that_is_not_there_is_named() -> None:
    with Prometheus("http://127.0.0.1:9") as prometheus, pytest.raises(PrometheusUnreachable, match=r"127\.0\.0\.1:9"):
        prometheus.query("up")


def test_a_server_that_is_not_a_prometheus_is_named() -> None:
    server = exporter("up %\n")
    try:
        url = f"http://127.0.0.1:{server.server_port}"
        with Prometheus(url) as prometheus, pytest.raises(PrometheusUnreachable, match=url):
            prometheus.query("up")
    finally:
        server.shutdown()
        server.server_close()


# ── recorded ──


def test_a_recording_reads_back_as_it_was_written(recorded: tuple[Path, float], tmp_path: Path) -> None:
    recording = load(recorded[0])
    save(recording, tmp_path / "again.gz")
    assert (tmp_path / "again.gz").read_bytes() == recorded[0].read_bytes()
    assert recording.seconds == 8
    assert recording.end_ms == round(recorded[1] * 1000)


def test_a_recording_holds_the_jobs_metrics_their_rules_and_no_noise(recorded: tuple[Path, float]) -> None:
    assert load(recorded[0]).metrics >= {
        *("gateway_requests_total", "process_cpu_seconds_total", "up", "gateway:requests:rate15s"),
        *("vllm:num_requests_waiting", "vllm:time_to_first_token_seconds_bucket", "llm:requests_waiting:avg15s"),
    }
    noise = [
        name
        for name in load(recorded[0]).metrics
        if re.search("_created$|^python_|^scrape_|^ALERTS|start_time|config_info", name)
    ]
    assert noise == []


def test_a_recording_does_not_hold_the_port_of_its_run(recorded: tuple[Path, float]) -> None:
    """Exploit: a port belongs to one run, so grouping or joining by it picks a recording by name."""
    instances = {labels["instance"] for labels, _ in load(recorded[0]).series if "instance" in labels}
    assert instances == {"gateway-0", "llm-0"}


def test_a_job_without_samples_is_an_error_that_names_it(live: str, tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="'nobody'"):
        record(live, time.time() - 5, time.time(), ["gateway", "nobody"], tmp_path / "run.gz")
    assert not (tmp_path / "run.gz").exists()


def test_a_minute_of_the_engines_series_takes_less_than_300_kB(tmp_path: Path) -> None:
    numbers = itertools.count()
    series = {f"vllm:s{i}": lambda second: next(numbers) / 7 + second for i in range(800)}
    save(a_recording(series), tmp_path / "run.gz")
    assert (tmp_path / "run.gz").stat().st_size < 300_000


def test_a_window_that_prometheus_did_not_see_whole_is_an_error(live: str, tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="during the whole window"):
        record(live, time.time() - 600, time.time(), ["gateway"], tmp_path / "run.gz")


def test_an_engine_that_answers_no_scrape_can_be_recorded(live: str, tmp_path: Path) -> None:
    recording = record(live, time.time() - 5, time.time(), ["loadgen"], tmp_path / "run.gz")
    assert {value for labels, points in recording.series if labels["__name__"] == "up" for _, value in points} == {0}


@pytest.mark.parametrize(
    "content",
    [
        # Named here: gzip writes the time into its header, and workers that collect tests must agree on their names.
        pytest.param(b"", id="empty"),
        pytest.param(b"no gzip", id="no gzip"),
        pytest.param(gzip.compress(b"no json"), id="no JSON"),
        pytest.param(gzip.compress(b"[]"), id="no object"),
        pytest.param(gzip.compress(json.dumps({"schema": 2}).encode()), id="another schema"),
        pytest.param(
            gzip.compress(json.dumps({"schema": 1, "start_ms": 0, "end_ms": 1, "groups": [{}]}).encode()),
            id="a group without series",
        ),
        pytest.param(gzip.compress(b'{"schema": 1}')[:-4], id="cut off"),
        pytest.param(gzip.compress(b" " * (65 << 20)), id="too large"),
    ],
)
def test_a_damaged_recording_is_an_error_that_names_the_file(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "run.gz").write_bytes(content)
    with pytest.raises(RecordingError, match=r"run\.gz"):
        load(tmp_path / "run.gz")


def test_a_recording_that_is_not_there_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=r"run\.gz"):
        load(tmp_path / "run.gz")


# ── replayed ──


@pytest.mark.parametrize(
    "expression",
    [
        "sum(rate(vllm:prompt_tokens_total[5s]))",
        "increase(gateway_requests_total[6s])",
        "histogram_quantile(0.6, sum by (le) (rate(vllm:time_to_first_token_seconds_bucket[5s])))",
        "avg_over_time(vllm:num_requests_waiting[4s])",
        "max_over_time(sum(vllm:num_requests_waiting)[5s:1s])",
        "deriv(vllm:num_requests_waiting[5s])",
        "sum_over_time(vllm:num_requests_waiting[6s:2s])",
        "llm:requests_waiting:avg15s",
        'count({job="llm", __name__=~"vllm:.*"})',
        "scalar(vllm:num_requests_waiting) + 1",
        "vllm:num_requests_waiting > 1e9",
        'count(vllm:odd{text="a \\"b\\" \\\\ \\n é"})',
    ],
)
def test_a_replay_gives_the_values_that_the_drill_gave(
    live: str, recorded: tuple[Path, float], expression: str
) -> None:
    path, end = recorded
    with Prometheus(live) as prometheus:
        expected = [sample.value for sample in prometheus.query(expression, end)]
    assert [s.value for s in evaluate({"run": path}, expression)["run"]] == pytest.approx(expected, rel=1e-9)
    assert expected or ">" in expression
