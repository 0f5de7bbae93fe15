"""Segue: what a retailer's customers do goes in, the next best action comes out while the moment lasts."""

__version__ = "0.1.0"
