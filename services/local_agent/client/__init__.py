"""Client of a running agent: what the `trivet` command and tests order, and what they see. Blocking calls."""
