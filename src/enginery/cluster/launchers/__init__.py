"""Launchers: how a controller or a set of engines is started, one file for each way."""
