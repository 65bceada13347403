"""Takes the networks and interfaces of one partition to its metalnet API, and its nodes and their states back."""
