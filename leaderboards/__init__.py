"""What is made of many runs: records, statistics, tables, the gate's comparison."""
