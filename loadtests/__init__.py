"""The load generator: plans of real requests, sent by Locust when they are due, and a row for each."""


class LoadError(Exception):
    """Why a plan, a rows file or a run is refused, in one line that says where and what to do."""
