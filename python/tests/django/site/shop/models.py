from django.db import models


class Order(models.Model):
    total = models.IntegerField()
    invoiced = models.BooleanField(default=False)
    note = models.TextField(blank=True)
