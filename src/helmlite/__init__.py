"""helmlite makes a trained helmet detector small and fast, proves what it cost, and runs it at the roadside."""

__version__ = "0.1.0"
