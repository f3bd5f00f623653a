"""The proxy knows which writes their sender had given up, and what they explain."""

import json
import select
import socket
import struct
import types
import unittest

from proxy import Handler, Proxy, Unguarded

WAIT_S = 10


class GivenUp(unittest.TestCase):
    def setUp(self):
        with socket.create_server(("127.0.0.1", 0)) as server:
            self.sender = socket.create_connection(server.getsockname())
            self.connection, _ = server.accept()
        self.addCleanup(self.sender.close)
        self.addCleanup(self.connection.close)

    def is_given_up(self):
        return Handler.is_given_up(types.SimpleNamespace(connection=self.connection))

    def until_told(self):
        self.assertTrue(select.select([self.connection], [], [], WAIT_S)[0])

    def test_who_waits_for_the_answer_has_not(self):
        self.assertFalse(self.is_given_up())

    def test_who_sends_more_has_not_and_nothing_of_it_is_taken(self):
        self.sender.sendall(b"POST")
        self.until_told()
        self.assertFalse(self.is_given_up())
        self.assertEqual(self.connection.recv(4), b"POST")

    def test_who_has_closed_the_connection_has(self):
        self.sender.close()
        self.until_told()
        self.assertTrue(self.is_given_up())

    def test_who_is_dead_has(self):
        # Without lingering it is a reset.
        self.sender.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sender.close()
        self.until_told()
        self.assertTrue(self.is_given_up())


class Explained(unittest.TestCase):
    def setUp(self):
        self.proxy = Proxy("http://127.0.0.1:1", 0)
        self.addCleanup(self.proxy.server_close)
        self.addCleanup(self.proxy.shutdown)

    def explains(self, *writes):
        """Whether state 1 instead of 2, of a table that had these writes."""
        states = {number: {"N": str(number)} for number in (1, 2, 3)}
        self.proxy.unguarded["t", "k"] = [Unguarded(worker, states[n], *rest) for worker, n, *rest in writes]
        return self.proxy.explains("t", "k", states[1], states[2])

    def test_it_is_asked_after_the_write(self):
        written = []
        self.proxy.request = lambda *_: written.append(True) or (200, {}, b"{}")
        batch = {"RequestItems": {"t": [{"PutRequest": {"Item": {"id": {"S": "k"}, "n": {"N": "1"}}}}]}}
        self.proxy.forward("a", {}, json.dumps(batch).encode(), lambda: bool(written))
        (write,) = self.proxy.unguarded["t", "k"]
        self.assertTrue(write.given_up)

    def test_a_write_that_was_given_up_and_came_late_explains_what_is_there(self):
        last = ("a", 2, False, 1, 2)
        self.assertTrue(self.explains(("a", 1, True, 0, 3), last))
        self.assertFalse(self.explains(("a", 1, False, 0, 3), last), "its sender waited for it")
        self.assertFalse(self.explains(("a", 1, True, 0, 0.5), last), "it was over before the last began")
        self.assertFalse(self.explains(("a", 1, True, 0, 3)), "the last was never written")

    def test_a_worker_that_was_further_explains_what_is_there(self):
        self.assertTrue(self.explains(("a", 1, False, 2, 3), ("b", 2, False, 1, 2)))
        self.assertFalse(self.explains(("a", 1, False, 2, 3), ("a", 2, False, 1, 2)), "it is the same worker")
        self.assertFalse(self.explains(("a", 1, False, 2, 3), ("a", 2, False, 1, 2), ("b", 3, False, 4, 5)), "it came after")


if __name__ == "__main__":
    unittest.main()
