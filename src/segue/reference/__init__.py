"""What a worker knows that is not a customer's."""
