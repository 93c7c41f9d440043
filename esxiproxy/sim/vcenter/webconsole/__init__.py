"""The HTML console of a simulated vCenter: its login, its pages, and the WebSocket of a console."""
