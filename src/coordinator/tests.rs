//! Scripted exchanges with a coordinator.
