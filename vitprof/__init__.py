"""What a vision backbone really costs on real hardware, and where its MAC count lies about it."""

__version__ = "0.1.0"
