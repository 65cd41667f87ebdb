"""The wire contract: protos and the code generated from them."""

# Of the whole project: everybody imports this package, installed or not.
__version__ = "0.1.0"
