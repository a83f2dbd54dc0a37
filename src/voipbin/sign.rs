//! Both signatures of a delivery.
