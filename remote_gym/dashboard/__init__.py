"""Dashboard process: the live page, over the `Watch` call of one server or several; the servers serve no HTML."""
