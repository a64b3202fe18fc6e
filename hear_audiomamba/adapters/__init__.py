"""Adapters to other libraries: each module here needs the library it is for, as an extra of its name."""
