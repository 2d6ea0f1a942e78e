"""Training: the LightningModule, its optimizer and schedule, and what Lightning does not bring."""
