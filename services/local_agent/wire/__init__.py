"""The executor API on the wire: HTTP/1.1, RecordIO, Mesos' JSON."""
