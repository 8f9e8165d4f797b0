"""Prediction problems on Gymnasium environments: policies, experience, and true values."""
