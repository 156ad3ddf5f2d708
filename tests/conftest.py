"""The fixtures and collectors that tests/sql and tests/py share."""

pytest_plugins = ("tests.server", "tests.pgtap", "tests.isolation")
