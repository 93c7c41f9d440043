"""Why a console does not open: a look at every step of the way to it, in their order."""
