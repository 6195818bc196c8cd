"""What a job is and what it needs. Pure: no clock, I/O, logging, SQL, Ray or torch."""
