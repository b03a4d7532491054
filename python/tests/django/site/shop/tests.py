"""A site's own tests, as its people write them."""

# ruff: noqa: PT009, PT027

from django.db import connection, transaction
from django.test import TransactionTestCase
from django_tenants.test.cases import TenantTestCase
from django_tenants.utils import get_tenant_model

from shop.models import Order
from shop.tasks import digest, fails_after_writing, invoice, seen
from tenant_q.django.testing import TasksMixin


class InvoiceTest(TasksMixin, TenantTestCase):
    @classmethod
    def setup_tenant(cls, tenant):
        tenant.name = "Test"

    def test_an_order_is_invoiced(self):
        order = Order.objects.create(total=5)
        result = invoice.enqueue(order.pk)
        self.assertEqual([(ran.handler, ran.state) for ran in self.drain()], [("shop.tasks.invoice", "done")])
        order.refresh_from_db()
        self.assertTrue(order.invoiced)
        self.assertEqual(result.get(), f"invoice of order {order.pk}")
        self.assertEqual(connection.schema_name, "test")

    def test_what_fails_takes_its_own_effects_back(self):
        order = Order.objects.create(total=5)
        fails_after_writing.options(max_attempts=1).enqueue(order.pk)
        self.assertEqual([ran.state for ran in self.drain()], ["failed"])
        order.refresh_from_db()
        self.assertEqual(order.note, "")
        with self.assertRaises(ValueError):
            fails_after_writing.options(max_attempts=1).enqueue(order.pk)
            self.drain(propagate=True)

    def test_nothing_is_left_of_the_other_test(self):
        self.assertFalse(Order.objects.exists())
        self.assertEqual(self.drain(), [])

    def test_at_once(self):
        order = Order.objects.create(total=5)
        with self.immediate():
            self.assertEqual(invoice.enqueue(order.pk).get(), f"invoice of order {order.pk}")


class CommittingTest(TasksMixin, TransactionTestCase):
    """Tests that commit: with a tenant of their own."""

    available_apps = None

    def setUp(self):
        connection.set_schema_to_public()
        self.tenant = get_tenant_model()(schema_name="committing", name="Committing")
        self.tenant.save(verbosity=0)
        connection.set_tenant(self.tenant)
        super().setUp()

    def tearDown(self):
        super().tearDown()
        connection.set_schema_to_public()
        self.tenant.delete(force_drop=True)

    def _fixture_teardown(self):
        """Flushing is for one schema; the tenant's is dropped."""

    def test_it_runs_once_it_is_committed(self):
        with transaction.atomic():
            order = Order.objects.create(total=5)
            invoice.enqueue(order.pk)
        self.assertEqual([ran.state for ran in self.run_pending()], ["done"])
        order.refresh_from_db()
        self.assertTrue(order.invoiced)

    def test_nothing_runs_that_was_rolled_back(self):
        with transaction.atomic():
            invoice.enqueue(1)
            transaction.set_rollback(True)
        self.assertEqual(self.run_pending(), [])

    def test_in_the_tenant(self):
        digest.enqueue()
        self.assertEqual([ran.state for ran in self.run_pending()], ["done"])
        self.assertEqual(seen[-1], "committing")
