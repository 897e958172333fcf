"""The parts of the web server around Django: what a request may cost, and whom it may cost it."""
