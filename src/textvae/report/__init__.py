"""The HTML report: `page` puts it together, `run_report` collects what it shows of a run."""
