"""What the server and the page have in common: who may call, and where they listen."""
