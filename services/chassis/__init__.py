"""What all services stand on; knows no user's data, agent or container."""
