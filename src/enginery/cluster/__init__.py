"""Bringing programs up: Cluster, ClusterManager, cluster files and launchers."""
