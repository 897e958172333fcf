"""The parts of the web server around Django: they limit what one request or client can use."""
