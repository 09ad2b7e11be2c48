"""Any browser as a device: a small web server, the page that it serves, and the way from vitprof to that page."""
