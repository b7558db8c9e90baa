"""What InfluxDB gets once it runs: buckets, a task, and tokens that may do no more than they must."""
