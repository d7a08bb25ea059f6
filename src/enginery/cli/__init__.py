"""The commands: ipcluster, ipcontroller, ipengine, iplogger."""
