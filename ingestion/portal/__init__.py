"""The pages for staff: they show the queues, and their forms give records to the intake."""
