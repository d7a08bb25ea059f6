"""The commands: ipcluster, ipcontroller, ipengine."""
