"""What runs on a device: play, extract, report, update. Never imports a trainer."""
