"""HTTP/1.1 without I/O: request heads, fields, forwarding and refusals."""
