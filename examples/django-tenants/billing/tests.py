"""The site's own tests, in transactions that are rolled back: no worker, nothing is committed."""

import os
import tempfile
from datetime import UTC, date
from decimal import Decimal
from unittest import mock

from django.db import connection
from django_tenants.test.cases import TenantTestCase
from django_tenants.test.client import TenantClient
from tenant_q.django.testing import TasksMixin

from . import provider, tasks
from .models import Closing, Invoice, Mail


class CompanyTest(TasksMixin, TenantTestCase):
    @classmethod
    def setup_tenant(cls, tenant):
        tenant.name = "Test"

    def setUp(self):
        super().setUp()
        self.http = TenantClient(self.tenant)
        books = tempfile.NamedTemporaryFile(suffix=".json")
        self.addCleanup(books.close)
        self.enterContext(mock.patch.dict(os.environ, SITE_PROVIDER=books.name))

    def test_an_invoice_is_sent_with_it(self):
        self.http.post("/", {"customer": "Bob", "amount": "12.50"})
        self.assertEqual([(ran.handler, ran.state) for ran in self.drain()], [("billing.tasks.send_invoice", "done")])
        self.assertEqual(Mail.objects.get().text, "Please pay 12.50.")
        self.assertContains(self.http.get("/"), "Please pay 12.50.")

    def test_an_invoice_that_is_refused_sends_nothing(self):
        self.assertEqual(self.http.post("/", {"customer": "Bob", "amount": "much"}).status_code, 400)
        self.assertEqual(self.drain(), [])
        self.assertFalse(Invoice.objects.exists())

    def test_the_provider_charges_once_whatever_gets_lost(self):
        from datetime import datetime, timedelta

        for n in range(3):
            invoice = Invoice.objects.create(customer=f"Bob {n}", amount=Decimal(10 + n))
            tasks.pay.enqueue(invoice.pk)
        ran = self.drain(as_of=datetime.now(UTC) + timedelta(minutes=5))
        self.assertEqual(sorted(each.state for each in ran), ["done", "done", "done", "retrying"])
        self.assertEqual(sorted(each["amount"] for each in provider.charges().values()), ["10.00", "11.00", "12.00"])
        self.assertFalse(Invoice.objects.filter(payment="").exists())

    def test_two_clicks_are_one_payment(self):
        invoice = Invoice.objects.create(customer="Bob", amount=5)
        answers = [self.http.post(f"/invoices/{invoice.pk}/pay") for _ in range(2)]
        self.assertEqual(answers[0]["Location"], answers[1]["Location"])
        self.assertEqual(len(self.drain()), 1)

    def test_the_report_says_who_owes_what(self):
        Invoice.objects.create(customer="Ann", amount=5)
        Invoice.objects.create(customer="Bob", amount=7, payment="ch_0")
        location = self.http.post("/report")["Location"]
        self.drain()
        self.assertEqual(self.http.get(location).json()["result"], {"Ann": "5.00", "Bob": "0"})

    def test_a_day_that_is_closed_twice_is_closed_once(self):
        invoice = Invoice.objects.create(customer="Ann", amount=5)
        for _ in range(2):
            tasks.close_day.enqueue(day=invoice.written)
        self.assertEqual([ran.state for ran in self.drain()], ["done", "done"])
        closing = Closing.objects.get()
        self.assertEqual((closing.invoices, closing.amount), (1, Decimal(5)))

    def test_every_company_has_the_schedule(self):
        with connection.cursor() as cursor:
            cursor.execute("SELECT handler, rule FROM tq_schedules")
            self.assertEqual(cursor.fetchall(), [("billing.tasks.close_day", "55 23 * * *")])
        self.assertEqual(tasks.close_day(date(2026, 1, 1)), 0)
