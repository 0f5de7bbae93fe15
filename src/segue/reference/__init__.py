"""What is not the customer's: the world's time zones, and tables of products, prices, stock and profiles."""
