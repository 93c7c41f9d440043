"""Authenticators: each module implements IAuthenticator."""
