"""The staff face: pages that show the queues, and forms that hand records to the intake."""
