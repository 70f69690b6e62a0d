"""Runs the integration tests that come with pymemcache."""

import sys
from pathlib import Path

import pymemcache.test
import pytest

host, port = sys.argv[1].split(":")
tests = Path(pymemcache.test.__file__).with_name("test_integration.py")
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", "--server", host, "--port", port, str(tests)]))
