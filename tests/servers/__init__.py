"""Real database servers, started by the tests themselves, killed by them and started again; and a proxy before them."""
