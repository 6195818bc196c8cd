"""Real faults at each phase of a real job: what is lost, doubled, resumed wrongly or ended for nothing."""
