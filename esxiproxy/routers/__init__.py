"""Routers: each module implements IRouter."""
