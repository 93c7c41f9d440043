"""Who a client is: one implementation of IAuthenticator a file."""
