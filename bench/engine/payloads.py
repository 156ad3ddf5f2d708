"""Payloads: JSON that differs in every value, the same list for every contender and run."""

from __future__ import annotations

import json
import random

_CITIES = ("Lisbon", "Turku", "Graz", "Leeds", "Brno", "Porto", "Aarhus", "Ghent", "Split", "Delft")
_ALPHABET = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


def small(count: int, seed: int = 1) -> list[str]:
    """Orders of 200 to 218 bytes of JSON text."""
    source = random.Random(seed)
    return [_order(source) for _ in range(count)]


def large(count: int, size: int, seed: int = 1) -> list[str]:
    """Documents of about `size` bytes: lists of orders, so they compress like real JSON does."""
    source = random.Random(seed)
    documents = []
    for _ in range(count):
        orders = [_order(source) for _ in range(max(1, size // 212))]
        documents.append('{"orders": [' + ", ".join(orders) + "]}")
    return documents


def _order(source: random.Random) -> str:
    order = {
        "order": source.randrange(10**9),
        "customer": f"{source.getrandbits(64):016x}",
        "city": source.choice(_CITIES),
        "amount": round(source.uniform(1, 10_000), 2),
        "placed": f"2025-{source.randint(1, 12):02}-{source.randint(1, 28):02}T"
        f"{source.randrange(24):02}:{source.randrange(60):02}:{source.randrange(60):02}Z",
        "items": [source.randrange(10**6) for _ in range(3)],
        "note": "",
    }
    missing = source.randint(200, 218) - len(json.dumps(order))
    order["note"] = "".join(source.choices(_ALPHABET, k=max(0, missing)))
    return json.dumps(order)
