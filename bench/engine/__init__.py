"""What the engine costs, beside the same work in bare SQL: see bench/README.md."""
