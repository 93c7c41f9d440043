"""Metrics for Prometheus.  Only modules of this folder import prometheus_client."""
