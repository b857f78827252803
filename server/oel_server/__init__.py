"""What runs at the aggregator: merge, practise, precheck, distil, package, gate, release."""
