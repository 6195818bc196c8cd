"""One file a change. The four digits that begin its name are its revision: orchestrator.store reads them."""
