"""The drift monitor: does traffic differ from what the release was made for, and does it matter?"""
