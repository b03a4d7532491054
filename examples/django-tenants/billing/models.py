from django.db import models


class Invoice(models.Model):
    """What a customer owes."""

    customer = models.CharField(max_length=100)
    amount = models.DecimalField(max_digits=10, decimal_places=2)
    written = models.DateField(auto_now_add=True)
    payment = models.CharField(max_length=100, blank=True)

    def __str__(self):
        return f"{self.pk}: {self.customer} {self.amount}"


class Closing(models.Model):
    """A day's end: one for each day, whoever does it how often."""

    day = models.DateField(unique=True)
    invoices = models.IntegerField()
    amount = models.DecimalField(max_digits=12, decimal_places=2)

    def __str__(self):
        return f"{self.day}: {self.amount}"


class Mail(models.Model):
    """What was sent, so that the example sends nothing to anybody."""

    to = models.CharField(max_length=100)
    text = models.TextField()

    def __str__(self):
        return f"{self.to}: {self.text}"
