"""What the steps of a flow do, without the stream engine that calls them."""
