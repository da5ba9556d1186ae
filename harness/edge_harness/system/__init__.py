"""This machine: what it has (``doctor``), and adding what it lacks (``setup``)."""
