"""Servers, browsers, processes and hostile input that the tests share."""
